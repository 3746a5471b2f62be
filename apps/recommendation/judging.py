"""How good are the lists? nDCG, recall, AUC, coverage and diversity, by activity and item age, with intervals."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kerasllm.data.interactions import Catalogue, Events
from kerasllm.data.item_tables import DAY
from kerasllm.decisions import auc, bootstrap_interval, coverage, intra_list_diversity, ndcg_at

# U users with a positive event, I items, K places of a list

K, DEEP_K = 10, 50
ACTIVITY = {"up to 20 events": 20, "21 to 100": 100, "more": np.inf}
AGES = {"under 1 year": 365.0, "1 to 5 years": 5 * 365.0, "older": np.inf}  # days since the release


def judged_users(later: Events, positive_from: float) -> list[str]:
    """Users with at least one event to find."""
    return [later.user_names[user] for user in np.unique(later.users[later.values >= positive_from])]


def judge(
    scores: np.ndarray,
    users: Sequence[str],
    known: Events,
    later: Events,
    catalogue: Catalogue,
    positive_from: float,
    texts: np.ndarray,
    allowed: np.ndarray | None = None,
) -> dict[str, Any]:
    """The metrics of a ranking of the whole catalogue, without what each user had already.

    Args:
      scores: [U, I], higher is better.
      users: U names, from `judged_users`.
      known: what the users had; it is not ranked.
      later: what they did then; values from `positive_from` on are to be found.
      catalogue: the items.
      positive_from: as in the configuration.
      texts: [I, E] of length 1, for the diversity of lists.
      allowed: [I] bool, items that are ranked; None: all.

    Returns:
      {"ndcg@10": ..., ...} means over users, each with "<name>_interval" [low, high]; "coverage", "diversity";
      "by_activity", "by_item_age"; and "per_user", nDCG@10 of each user in the order of `users`.
    """
    rows, lists, hits = [], [], []
    for user, row in zip(users, scores, strict=True):
        had, after = known.of_user(user), later.of_user(user)
        is_ranked = np.ones(len(catalogue), bool) if allowed is None else allowed.copy()
        is_ranked[had.items] = False
        positive = np.unique(after.items[after.values >= positive_from])
        positive = positive[is_ranked[positive]]
        order = np.argsort(-np.where(is_ranked, row, -np.inf), kind="stable")[: min(DEEP_K, int(is_ranked.sum()))]
        found = np.isin(order, positive)
        negative = is_ranked.copy()
        negative[positive] = False
        deep = found.sum() / max(1, len(positive))
        ndcg = float(ndcg_at(found[:K], len(positive), K)) if len(positive) else np.nan
        rows.append((ndcg, found[:K].sum() / max(1, len(positive)), deep, auc(row[positive], row[negative])))
        lists.append(order[:K])
        moment = had.times[-1] if len(had) else after.times[0]
        ages = (moment - catalogue.released[positive]) / DAY
        hits += list(zip(ages, np.isin(positive, order[:K]), strict=True))
    values = np.array(rows)
    values = values[~np.isnan(values[:, 0])]
    result: dict[str, Any] = {"num_users": len(values)}
    for column, name in enumerate((f"ndcg@{K}", f"recall@{K}", f"recall@{DEEP_K}", "auc")):
        result[name] = float(values[:, column].mean())
        result[f"{name}_interval"] = bootstrap_interval(values[:, column])
    full = [items for items in lists if len(items) == K]
    return {
        **result,
        **list_quality(full, texts, len(catalogue) if allowed is None else int(allowed.sum())),
        "by_activity": _by_activity(np.array(rows)[:, 0], np.array([len(known.of_user(user)) for user in users])),
        "by_item_age": _by_age(hits),
        "per_user": [float(row[0]) for row in rows],
    }


def list_quality(lists: Sequence[np.ndarray], texts: np.ndarray, num_items: int) -> dict[str, float]:
    """Coverage of the catalogue, and mean diversity (1 - cosine of the texts) of lists of K items."""
    if not lists:
        return {"coverage": 0.0, "diversity": 0.0}
    diversity = intra_list_diversity(texts[np.stack(lists)])
    return {"coverage": coverage(lists, num_items), "diversity": float(diversity.mean())}


def _by_activity(ndcg: np.ndarray, counts: np.ndarray) -> dict[str, Any]:
    groups, least = {}, -1.0
    for name, most in ACTIVITY.items():
        chosen = ndcg[(counts > least) & (counts <= most) & ~np.isnan(ndcg)]
        least = most
        if len(chosen):
            low_high = bootstrap_interval(chosen)
            groups[name] = {"num_users": len(chosen), f"ndcg@{K}": float(chosen.mean()), "interval": low_high}
    return groups


def _by_age(hits: Sequence[tuple[float, bool]]) -> dict[str, Any]:
    """Share of the events to find that were among the first K, by how old their item was."""
    ages, found = np.array([age for age, _ in hits]), np.array([hit for _, hit in hits], np.float64)
    groups: dict[str, Any] = {}
    least = -np.inf
    for name, most in [*AGES.items(), ("not known", np.nan)]:
        chosen = found[np.isnan(ages)] if np.isnan(most) else found[(ages > least) & (ages <= most)]
        least = most
        if len(chosen):
            groups[name] = {
                "num_events": len(chosen),
                f"hit@{K}": float(chosen.mean()),
                "interval": bootstrap_interval(chosen),
            }
    return groups


def report(result: dict[str, Any]) -> str:
    """The metrics as an aligned table."""
    lines = [f"{result['num_users']:,} users with something to find"]
    for name in (f"ndcg@{K}", f"recall@{K}", f"recall@{DEEP_K}", "auc"):
        low, high = result[f"{name}_interval"]
        lines.append(f"{name:<12}{result[name]:>8.4f}   {low:.4f} to {high:.4f}")
    lines += [f"{name:<12}{result[name]:>8.4f}" for name in ("coverage", "diversity")]
    for group in ("by_activity", "by_item_age"):
        for name, one in result[group].items():
            kind, value = next((key, number) for key, number in one.items() if "@" in key)
            low, high = one["interval"]
            lines.append(f"{name:<18}{kind:<8}{value:>8.4f}   {low:.4f} to {high:.4f}")
    return "\n".join(lines)
