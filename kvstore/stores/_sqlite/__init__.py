"""What a SQLiteStore is made of. The files, and the rules that hold whoever dies meanwhile:

::

    <root>/kvstore.db              the index, in WAL mode (with -wal and -shm beside it)
    <root>/blobs/5d/<name>         data that is too large for the index
    <root>/stage/<name>            the same, until the change that it belongs to is committed
    <root>/stage/<session>.lock    held by the process whose files begin with <session>

1. A blob is on the disk before the row that names it is committed, and is moved from ``stage`` to
   its folder after; so a blob of a row is in one of the two.
2. A file in ``stage`` whose session is over belongs to a row, and is moved, or to none, and is
   removed. Nobody need look through ``blobs``.
3. A blob that no row needs any more is named in ``trash`` by the commit that frees it, and removed
   after. Whoever opens the store finishes what others left in there.

So what counts is the index alone, and SQLite keeps that whole.
"""
