"""The import protocol of MeteorPi cameras, whose exporter pushes events and files to a server."""

from kvstore.gateways.meteorpi.gateway import MeteorpiGateway as MeteorpiGateway
