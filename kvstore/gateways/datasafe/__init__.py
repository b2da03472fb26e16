"""The datasafe of LabInform: datasets under lab object identifiers, as ZIP archives."""

from kvstore.gateways.datasafe.gateway import DatasafeGateway as DatasafeGateway
