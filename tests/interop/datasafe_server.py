"""Runs in the environment of labinform-datasafe: its server at a port that it prints."""

import sys

from datasafe.server import create_http_server
from werkzeug.serving import make_server

# One request at a time: this server changes its working folder while it answers one.
server = make_server("127.0.0.1", 0, create_http_server())
sys.stdout.write(f"serving at http://127.0.0.1:{server.port}\n")
sys.stdout.flush()
server.serve_forever()
