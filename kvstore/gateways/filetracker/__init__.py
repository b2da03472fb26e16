"""The protocol of filetracker 2.x: files with a version, which is a time in whole seconds."""

from kvstore.gateways.filetracker.gateway import FiletrackerGateway as FiletrackerGateway
