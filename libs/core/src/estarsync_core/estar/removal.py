"""The brake on removals: a snapshot that lacks too much is more likely broken than true.

The poller writes a `Hold` to the control topic when it holds removals back, a person answers with an `Approval`
of that hold, and the next snapshot obeys, as long as it would not remove more than was approved.
"""

import msgspec

from estarsync_core.entities import Entity

_FEW = 10
_SHARE = 0.05


class Hold(msgspec.Struct, frozen=True, omit_defaults=True):
    """Removals that are held back: of `published` keys, `vanishing` are not in the shop any more.

    `id` stays the same while snapshot after snapshot is held back. `sample` holds some of the keys.
    """

    id: str
    vanishing: int
    published: int
    sample: tuple[str, ...] = ()

    @property
    def share(self) -> float:
        """How much of what is published would go."""
        return self.vanishing / self.published if self.published else 0.0


class Approval(msgspec.Struct, frozen=True):
    """A person's word that a hold's removals are right, up to so many."""

    id: str
    vanishing: int


def hold_key(entity: Entity) -> str:
    """Under which key of the control topic the poller writes a hold."""
    return f"removals/{entity}"


def approval_key(entity: Entity) -> str:
    """Under which key of the control topic a person's approval is written."""
    return f"removals-approval/{entity}"


def may_remove(vanishing: int, published: int, *, empty: bool) -> bool:
    """Whether a snapshot may remove keys without a person's word.

    Args:
        vanishing: how many keys it lacks.
        published: how many keys there are, those included.
        empty: whether the snapshot holds nothing at all.
    """
    if vanishing == 0:
        return True
    return not empty and (vanishing <= _FEW or vanishing <= published * _SHARE)


def is_approved(vanishing: int, hold: Hold | None, approval: Approval | None) -> bool:
    """Whether a person has agreed to this hold's removals, and to no fewer than these."""
    return (
        hold is not None
        and approval is not None
        and approval.id == hold.id
        and vanishing <= approval.vanishing
    )
