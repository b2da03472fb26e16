"""The contract of stores as tests: subclass :class:`StoreContract` and give ``make_store``."""

from __future__ import annotations

from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from kvstore.testing.contract_base import ContractBase
from kvstore.testing.contract_changes import ChangesContract
from kvstore.testing.contract_concurrency import ConcurrencyContract
from kvstore.testing.contract_conditions import ConditionsContract
from kvstore.testing.contract_copies import CopiesContract
from kvstore.testing.contract_data import DataContract
from kvstore.testing.contract_events import EventsContract
from kvstore.testing.contract_filters import FiltersContract
from kvstore.testing.contract_keys import KeysContract
from kvstore.testing.contract_lifecycle import LifecycleContract, MappingContract
from kvstore.testing.contract_listing import ListingContract
from kvstore.testing.contract_metadata import MetadataContract
from kvstore.testing.contract_missing import MissingContract
from kvstore.testing.contract_multi import MultiContract
from kvstore.testing.contract_permissions import PermissionsContract
from kvstore.testing.contract_progress import ProgressContract
from kvstore.testing.contract_ranges import RangesContract
from kvstore.testing.contract_transactions import TransactionsContract
from kvstore.testing.contract_values import ValuesContract
from kvstore.testing.contract_versions import VersionsContract
from kvstore.testing.contract_watch import WatchContract
from kvstore.testing.contract_writing import WritingContract
from kvstore.testing.stateful import SETTINGS, store_machine


class HistoryContract(ContractBase):
    """Histories that Hypothesis makes up."""

    #: How many are tried; fewer will do for a store that is made of others that were tried.
    histories = SETTINGS.max_examples

    def test_any_history_agrees_with_a_dict(self) -> None:
        """Whatever is done in whatever order; the shortest history that fails is shown."""
        chosen = settings(SETTINGS, max_examples=self.histories)
        run_state_machine_as_test(store_machine(self.make_store), settings=chosen)


class StoreContract(
    LifecycleContract,
    MissingContract,
    WritingContract,
    DataContract,
    MetadataContract,
    CopiesContract,
    ValuesContract,
    RangesContract,
    ListingContract,
    FiltersContract,
    KeysContract,
    MultiContract,
    MappingContract,
    ConditionsContract,
    PermissionsContract,
    EventsContract,
    ProgressContract,
    TransactionsContract,
    ChangesContract,
    VersionsContract,
    WatchContract,
    ConcurrencyContract,
    HistoryContract,
):
    """Everything that a store promises, as about 200 tests.

    A subclass whose name begins with ``Test`` gives ``make_store``, and ``make_store_with_schema``,
    ``make_store_with_versions`` and ``make_second_store`` if it can; a fixture may prepare what
    these need. What ``info()`` says that a store cannot do is skipped, or tested to be refused.
    Tests look at nothing but the public methods.
    """
