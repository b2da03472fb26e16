"""An application and its tests: given a MemoryStore, it cannot tell the difference."""

from collections.abc import Iterator

import pytest

import kvstore


class Logbook:
    """The application. It is given a store, so in production that of a server."""

    def __init__(self, store: kvstore.Store) -> None:
        self.store = store

    def add(self, night: str, text: str) -> None:
        """Write the entry of a night; there is one only, whoever comes first."""
        metadata = {"words": len(text.split()), "approved": False}
        self.store.set(f"log/{night}", text.encode(), metadata=metadata, if_none_match="*")

    def approve(self, night: str) -> None:
        """Approve the entry as it is now; a change in the same moment is not approved."""
        value = self.store.get(f"log/{night}")
        self.store.update_metadata(f"log/{night}", {"approved": True}, if_match=value)

    def pending(self) -> list[str]:
        """Return the nights whose entries wait for approval."""
        return [key.removeprefix("log/") for key in self.store.query_keys(approved=False)]


@pytest.fixture
def store() -> Iterator[kvstore.Store]:
    with kvstore.MemoryStore() as store:
        yield store


def test_entries_wait_for_approval(store: kvstore.Store) -> None:
    logbook = Logbook(store)
    logbook.add("2011-09-01", "clear, some wind")
    logbook.add("2011-09-02", "clouds")
    logbook.approve("2011-09-01")
    assert logbook.pending() == ["2011-09-02"]
    assert store.get_metadata("log/2011-09-01") == {"words": 3, "approved": True}


def test_the_first_entry_of_a_night_stays(store: kvstore.Store) -> None:
    logbook = Logbook(store)
    logbook.add("2011-09-01", "clear")
    with pytest.raises(kvstore.ConflictError):
        logbook.add("2011-09-01", "clouds")
    assert store.to_bytes("log/2011-09-01") == b"clear"


if __name__ == "__main__":
    for test in (test_entries_wait_for_approval, test_the_first_entry_of_a_night_stays):
        with kvstore.MemoryStore() as fresh:
            test(fresh)
        print(test.__name__, "passed")
