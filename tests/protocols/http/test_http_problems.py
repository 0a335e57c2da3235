"""Every error of the gateway has its place in HTTP."""

from __future__ import annotations

import pytest

from gateway.core import errors
from gateway.protocols.http.problems import ERRORS, KINDS, Problem, Refused, problem_of

#: Raised before doors open, or the base: no request ever meets them.
NOT_FOR_CLIENTS = {errors.GatewayError, errors.StorageError}

STATUSES = {
    errors.AuthenticationFailed: 401,
    errors.NotAuthorized: 403,
    errors.InvalidTopic: 400,
    errors.NotFound: 404,
    errors.Conflict: 409,
    errors.QueueFull: 429,
    errors.NotStored: 507,
    errors.TooLarge: 413,
    errors.InvalidValue: 422,
    errors.QuotaExceeded: 429,
    errors.Throttled: 429,
}


def test_no_error_is_forgotten() -> None:
    known = {
        value
        for value in vars(errors).values()
        if isinstance(value, type) and issubclass(value, errors.GatewayError)
    }
    assert {error for error, _ in ERRORS} == known - NOT_FOR_CLIENTS == set(STATUSES)


@pytest.mark.parametrize(("error", "status"), STATUSES.items())
def test_statuses(error: type[errors.GatewayError], status: int) -> None:
    problem = problem_of(error("why, and what to do"))
    assert problem.status == status == problem.to_mapping()["status"]
    assert problem.to_mapping()["detail"] == "why, and what to do"
    assert problem.to_mapping()["type"] == f"/docs#{problem.kind}"


def test_what_can_be_tried_again_says_so() -> None:
    for kind, (status, _) in KINDS.items():
        headers = dict(Problem(kind, "").headers)
        assert (b"retry-after" in headers) == (status in (429, 503, 507))
        assert (b"www-authenticate" in headers) == (status == 401)


def test_more_members_can_be_added() -> None:
    problem = problem_of(Refused("conflict", "no", where="here"))
    assert problem.to_mapping() == {
        "type": "/docs#conflict",
        "title": "Conflict",
        "status": 409,
        "detail": "no",
        "where": "here",
    }
