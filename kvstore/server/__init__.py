"""Any store on the wire: the reference server, as an ASGI application and ready to run."""

from kvstore.server.access.callers import Access as Access
from kvstore.server.access.token_access import TokenAuthenticator as TokenAuthenticator
from kvstore.server.access.tokens import Tokens as Tokens
from kvstore.server.app import create_app as create_app
from kvstore.server.gateways import Gateway as Gateway
from kvstore.server.limits import Limits as Limits
from kvstore.server.running.run import serve as serve
from kvstore.server.running.run import serve_background as serve_background
from kvstore.server.running.settings import Settings as Settings
