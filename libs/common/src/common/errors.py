"""The kinds of errors that a client can act on. A service's own error is a one-line subclass of a kind."""

from collections.abc import Mapping
from typing import Any, ClassVar


class AppError(Exception):
    """An error with its HTTP status and `code`.

    `detail` is one sentence for a person. `fields` (name → sentences) makes it a validation error, whose body has no
    `detail`. The body also has what `extra` holds.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "error"
    default: ClassVar[str] = "Something went wrong."

    def __init__(
        self,
        detail: str | None = None,
        *,
        fields: Mapping[str, list[str]] | None = None,
        extra: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.detail = detail or self.default
        self.fields = dict(fields or {})
        self.extra = dict(extra or {})
        self.headers = dict(headers or {})
        super().__init__(self.detail if not self.fields else f"{self.fields}")

    @classmethod
    def field(cls, name: str, message: str) -> "AppError":
        """Return the error of a single field."""
        return cls(fields={name: [message]})

    def body(self, request_id: str) -> dict[str, Any]:
        """Return the JSON body (docs/frontend.md, Errors)."""
        shown: dict[str, Any] = dict(self.fields) if self.fields else {"detail": self.detail}
        return {**shown, **self.extra, "code": self.code, "request_id": request_id}


class Invalid(AppError):
    status, code, default = 400, "invalid", "The request is not valid."


class ParseError(AppError):
    status, code, default = 400, "parse_error", "The body is not valid JSON."


class Unauthenticated(AppError):
    status, code, default = 401, "authentication_failed", "The credentials are not valid."

    def __init__(self, detail: str | None = None, **more: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"}, **more)


class NotAuthenticated(Unauthenticated):
    code, default = "not_authenticated", "Authentication credentials were not provided."


class Forbidden(AppError):
    status, code, default = 403, "permission_denied", "You do not have permission to perform this action."


class NotFound(AppError):
    status, code, default = 404, "not_found", "Not found."


class MethodNotAllowed(AppError):
    status, code, default = 405, "method_not_allowed", "This method is not allowed here."


class RequestTimeout(AppError):
    status, code, default = 408, "request_timeout", "The request did not arrive in time. Send it again."


class Conflict(AppError):
    status, code, default = 409, "in_progress", "The same request is still running."


class TooLarge(AppError):
    status, code, default = 413, "too_large", "The body is too large."


class UnsupportedMediaType(AppError):
    status, code, default = 415, "unsupported_media_type", "Send the body as application/json."


class Throttled(AppError):
    status, code, default = 429, "throttled", "Too many requests."


class HeadersTooLarge(AppError):
    status, code, default = 431, "headers_too_large", "The headers of the request are too large."


class Unavailable(AppError):
    status, code, default = 503, "unavailable", "A part of the system is not available. Try again in a moment."


class BadGateway(Unavailable):
    status, default = 502, "The service behind this address did not answer."


class GatewayTimeout(Unavailable):
    status, default = 504, "The service behind this address did not answer in time."
