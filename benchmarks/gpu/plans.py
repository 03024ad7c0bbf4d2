"""Plans near a plan: each differs in one number, as far as the kernels allow."""

from __future__ import annotations

from collections.abc import Iterator

from senet.kernels.triton_plan import MOST_SPLITS, Plan

__all__ = ["FIELDS", "changed", "near"]

FIELDS = ("warps", "unroll", "pixels", "channels", "rows", "stages", "reverse")
_MOST_ELEMENTS = 2**14  # of a tile and map that a program can hold in registers, with warps enough


def near(plan: Plan, kind: str, shape: tuple[int, int, int]) -> Iterator[tuple[str, Plan]]:
    """The field that was changed and the plan with it.

    Args:
        plan: where to start.
        kind: ``"map"`` or ``"sums"``.
        shape: N, C, H*W.
    """
    tile, flat = plan.tile, plan.tile.layout == "flat"
    yield from (("warps", plan._replace(warps=w)) for w in (plan.warps // 2, plan.warps * 2) if 1 <= w <= 16)
    wanted: dict[str, list[int]] = {
        "unroll": [] if flat else [tile.unroll // 2, tile.unroll * 2],
        "pixels": [tile.pixels // 2, tile.pixels * 2],
        "channels": [] if flat else [tile.channels // 2, tile.channels * 2],
        "stages": [] if flat else [stages for stages in (1, 2, 3) if stages != tile.stages],
        "reverse": [not tile.reverse],
    }
    for field, values in wanted.items():
        for value in values:
            if value or field == "reverse":
                found = changed(plan, field, value, shape)
                if _fits(found, kind, shape):
                    yield field, found
    if not flat:
        for rows in (plan.rows // 2, plan.rows * 2):
            found = changed(plan, "rows", rows, shape)
            if found.rows != plan.rows and _fits(found, kind, shape):
                yield "rows", found


def changed(plan: Plan, field: str, value: int, shape: tuple[int, int, int]) -> Plan:
    """The plan with another number, and what must follow from it."""
    if field in ("warps", "rows"):
        plan = plan._replace(**{field: value})
    else:
        plan = plan._replace(tile=plan.tile._replace(**{field: value}))
    tile, area = plan.tile, shape[2]
    if tile.layout == "flat":
        planes = _power(-(-tile.pixels // area) + 1) if area < tile.pixels else 1
        return plan._replace(tile=tile._replace(channels=planes), rows=tile.pixels)
    step = tile.unroll * tile.pixels
    return plan._replace(rows=max(1, -(-plan.rows // step)) * step)


def _fits(plan: Plan, kind: str, shape: tuple[int, int, int]) -> bool:
    tile, (_, c, area) = plan.tile, shape
    if tile.layout == "flat":
        return 32 * plan.warps <= tile.pixels <= _MOST_ELEMENTS
    held = tile.unroll * tile.pixels * tile.channels
    inside = tile.channels <= _power(c) and tile.pixels <= _power(area) and plan.rows < 2 * _power(area)
    return inside and held <= _MOST_ELEMENTS and (kind == "map" or -(-area // plan.rows) <= MOST_SPLITS)


def _power(size: int) -> int:
    return 1 << (size - 1).bit_length()
