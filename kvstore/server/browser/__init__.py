"""The data browser: the page at ``/``, which talks to the store by the protocol alone."""
