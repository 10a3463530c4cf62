"""What a fault of the connection, the hub or the disk means for the learner."""

from modelscope_hub import FileIntegrityError

STATUS = {
    401: "it wants a login (check the name, or set MODELSCOPE_API_TOKEN)",
    403: "it refuses access (check the name, or accept the terms on the model's page)",
    404: "it has no such thing (check the name and the revision)",
    429: "it had too many requests (wait a minute, then run this again)",
}


def reason(cause: int | BaseException) -> str:
    """What an HTTP status or an exception of the client means for the learner."""
    status = cause
    if not isinstance(cause, int):
        status = getattr(cause, "status_code", None)
    if status:
        return STATUS.get(status, f"it answers HTTP {status} (wait a minute, then run this again)")
    if isinstance(cause, FileIntegrityError):
        return "what arrives has not the listed size or sha256 (try again later)"
    if isinstance(cause, (TimeoutError, OSError)):
        return "the connection keeps breaking off (run this again, it goes on where it stopped)"
    return f"{type(cause).__name__}, {str(cause)[:100]}"
