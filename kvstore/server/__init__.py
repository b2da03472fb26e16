"""Any store on the wire: the reference server, as an ASGI application and ready to run."""

from kvstore.server.app import create_app as create_app
from kvstore.server.callers import Access as Access
from kvstore.server.limits import Limits as Limits
from kvstore.server.run import serve as serve
from kvstore.server.run import serve_background as serve_background
from kvstore.server.settings import Settings as Settings
from kvstore.server.token_access import TokenAuthenticator as TokenAuthenticator
from kvstore.server.tokens import Tokens as Tokens
