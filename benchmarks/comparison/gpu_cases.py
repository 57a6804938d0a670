"""What is timed on a GPU, the most telling first. Imports no PyTorch."""

from __future__ import annotations

from .cases import Case, Size

ROWS = 8192
# Llama 2, the same made odd, LLaVA's, Llama 3's and Qwen2's.
VOCABULARIES = (32000, 32003, 32064, 128256, 152064)
HEADS = {32000: 4096, 152064: 3584}  # hidden sizes
SHARES = (100, 30, 50)
LOGITS_ROUNDS, LINEAR_ROUNDS, QUICK_ROUNDS = 15, 7, 2
QUICK_ROWS, QUICK_VOCABULARIES, QUICK_HIDDEN = 64, (512, 515), 32


def all_cases() -> list[Case]:
    """In the order of a run, so that one that is stopped has what matters most."""
    logits = {vocab: Size(ROWS, vocab) for vocab in VOCABULARIES}
    linear = {vocab: Size(ROWS, vocab, hidden) for vocab, hidden in HEADS.items()}
    found = []
    for vocab in HEADS:
        found.append(Case(logits[vocab], "bfloat16", 100))
        found += [Case(linear[vocab], "bfloat16", share) for share in (100, 30)]
    rest = [Case(size, "bfloat16", share) for share in SHARES for size in logits.values()]
    rest.insert(len(VOCABULARIES), Case(logits[32000], "float32", 100))
    rest += [Case(size, "bfloat16", 50) for size in linear.values()]
    return [*found, *(case for case in rest if case not in found)]


def quick_cases() -> list[Case]:
    """Small ones that go through all the code."""
    sizes = [Size(QUICK_ROWS, vocab) for vocab in QUICK_VOCABULARIES]
    sizes.append(Size(QUICK_ROWS, QUICK_VOCABULARIES[0], QUICK_HIDDEN))
    found = [Case(size, "bfloat16", share) for size in sizes for share in (100, 30)]
    return [*found, Case(sizes[0], "float32", 100)]


def rounds(case: Case, *, quick: bool) -> int:
    """How often a case is timed."""
    if quick:
        return QUICK_ROUNDS
    return LOGITS_ROUNDS if case.size.hidden is None else LINEAR_ROUNDS
