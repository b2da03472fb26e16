"""VOSpace 2.1: nodes, transfers and jobs over the keys of a store, for clients of observatories."""

from kvstore.gateways.vospace.gateway import VospaceGateway as VospaceGateway
