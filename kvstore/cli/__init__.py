"""The command line, ``kvstore`` or ``python -m kvstore``. Needs ``kvstore[cli]``.

All that imports click and rich is in here, and nothing of the library imports it.
"""
