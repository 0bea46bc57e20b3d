"""All rows of a company, in the order in which they can be written."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from admin.seed.company import Company, Ids, Part
from admin.seed.foundation import foundation
from admin.seed.issues import issues
from admin.seed.merge_requests import merge_requests
from admin.seed.test_runs import test_runs
from admin.seed.writings import writings


def rows(company: Company, ids: Ids, *, auth: str) -> Iterator[list[Part]]:
    """Parts by transaction; each names only rows of its own or of earlier ones.

    Args:
        company: what is to be made.
        ids: set aside as `Company.ids_needed` says.
        auth: of its connections: ciphertext of no secrets.
    """
    return chain(
        foundation(company, ids, auth=auth),
        issues(company, ids),
        merge_requests(company, ids),
        test_runs(company, ids),
        writings(company, ids),
    )
