"""Errors by the names that the standard has for them (VOSpace 2.1 section 3.3 and what follows)."""

from __future__ import annotations

from kvstore.errors import (
    AuthenticationError,
    AuthorizationError,
    ConflictError,
    IntegrityError,
    InvalidKeyError,
    InvalidMetadataError,
    InvalidPermissionsError,
    InvalidRequestError,
    KeyNotFoundError,
    RangeError,
    StorageFullError,
    TooLargeError,
    UnavailableError,
    UnsupportedOperationError,
)
from kvstore.profiles.problems import problem_of
from kvstore.server.answers import NO_STORE, SAFE, NotAllowedError, Refusal, Reply, length_field

#: What a job says of each in its summary; the names are what its error says.
SUMMARIES = {
    "InternalFault": "Internal Fault",
    "PermissionDenied": "Permission Denied",
    "InvalidURI": "Invalid URI",
    "InvalidArgument": "Invalid Argument",
    "NodeNotFound": "Node Not Found",
    "ContainerNotFound": "Container Not Found",
    "DuplicateNode": "Duplicate Node",
    "ViewNotSupported": "View Not Supported",
    "ProtocolNotSupported": "Protocol Not Supported",
    "InvalidData": "Invalid Data",
    "NodeBusy": "Node Busy",
    "OperationNotSupported": "Operation Not Supported",
    "TransferFailed": "Transfer Failed",
    "TypeNotSupported": "Type Not Supported",
    "LinkFound": "Link Found",
}

# The first that an error is an instance of counts.
_NAMES: tuple[tuple[type[Exception], str], ...] = (
    (KeyNotFoundError, "NodeNotFound"),
    (AuthenticationError, "NotAuthenticated"),
    (AuthorizationError, "PermissionDenied"),
    (InvalidKeyError, "InvalidURI"),
    (InvalidMetadataError, "InvalidArgument"),
    (InvalidPermissionsError, "InvalidArgument"),
    (InvalidRequestError, "InvalidArgument"),
    (RangeError, "InvalidArgument"),
    (TooLargeError, "RequestEntityTooLarge"),
    (ConflictError, "NodeBusy"),
    (IntegrityError, "InvalidData"),
    (StorageFullError, "InsufficientStorage"),
    (UnavailableError, "ServiceBusy"),
    (UnsupportedOperationError, "OperationNotSupported"),
)
#: Header fields of our own answer that go with a fault, too.
_KEPT = (b"allow", b"content-range", b"etag", b"last-modified", b"retry-after", b"www-authenticate")


class Fault(Refusal):
    """An error of the standard, by its exact name."""

    def __init__(self, name: str, status: int, detail: str) -> None:
        super().__init__(status, detail)
        self.name = name


def invalid_uri(detail: str) -> Fault:
    """A text that is no URI of a node, or not of this one."""
    return Fault("InvalidURI", 400, detail)


def invalid_argument(detail: str) -> Fault:
    """A document or parameter that makes no sense."""
    return Fault("InvalidArgument", 400, detail)


def not_found(path: str) -> Fault:
    """There is no such node, or it may not be seen."""
    return Fault("NodeNotFound", 404, f"There is no node {path!r:.200}.")


def container_not_found(path: str) -> Fault:
    """The container that a node is to be in is not there."""
    return Fault("ContainerNotFound", 404, f"There is no container {path!r:.200}.")


def duplicate(path: str) -> Fault:
    """The name is taken."""
    return Fault("DuplicateNode", 409, f"There is a node {path!r:.200} already.")


def link_found(path: str) -> Fault:
    """A link stands where only a container may."""
    return Fault("LinkFound", 400, f"The node {path!r:.200} is a link, no container.")


def denied(detail: str) -> Fault:
    """Nobody may do this, or not this caller."""
    return Fault("PermissionDenied", 403, detail)


def unsupported(detail: str) -> Fault:
    """What the standard knows and this server does not."""
    return Fault("OperationNotSupported", 400, detail)


def fault_of(error: Exception) -> Fault:
    """Return what clients, and jobs, are told of any error; nothing of those that are no fault."""
    if isinstance(error, Fault):
        return error
    for kind, name in _NAMES:
        if isinstance(error, kind):
            _, problem = problem_of(error)  # without what a failing store says of itself, as paths
            return Fault(name, 500, str(problem.get("detail") or problem["title"]))
    if isinstance(error, Refusal) and error.status < 500:
        return Fault("InvalidArgument", error.status, error.detail)
    return Fault("InternalFault", 500, "The server failed; its log has the details.")


def fault_reply(error: Exception, reply: Reply) -> Reply:
    """Return the answer of this protocol in place of *reply*, that of the server's own one.

    The body is the name, a space and a sentence, as plain text: clients compare the first word.
    """
    fault = fault_of(error)
    status = fault.status if isinstance(error, Fault) else reply.status
    if isinstance(error, IntegrityError) and status == 400:
        status = 412  # what the digest of a request did not hold for
    if isinstance(error, NotAllowedError):
        fault = Fault("OperationNotSupported", status, error.message)
    told = f"{fault.name} {fault.detail}".rstrip() + "\n"
    body = told.encode("utf-8", "backslashreplace")
    kept = [field for field in reply.fields if field[0].lower() in _KEPT]
    kind = (b"content-type", b"text/plain; charset=utf-8")
    return Reply(status, [kind, *SAFE, NO_STORE, *kept, length_field(len(body))], body)
