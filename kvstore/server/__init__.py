"""Any store on the wire: the reference server, as an ASGI application and ready to run."""

from kvstore.server.app import create_app as create_app
from kvstore.server.limits import Limits as Limits
from kvstore.server.run import serve as serve
from kvstore.server.run import serve_background as serve_background
