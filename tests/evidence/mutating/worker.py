"""One group of mutants, run by mutmut in a copy of the tree; the outcome of each as JSON.

A script for the Python that has mutmut, started in the copy. Three things are done to mutmut's choice of mutants. Wording is left
alone: strings, what stands in an f-string, and what is raised; arguments become None but are not left out. Of a large module the seed
draws a sample. Properties and context
managers, which mutmut leaves out for being decorated, are made plain functions that are decorated a line later, which says the same.
"""

import json
import os
import random
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import libcst as cst
from mutmut import __main__ as mutmut
from mutmut.configuration import ForkServerWarmup, ProcessIsolation, config
from mutmut.mutation import file_mutation
from mutmut.mutation.data import SourceFileMutationData
from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.state import state
from mutmut.stats import status_by_exit_code

REDECORATED = ("property", "contextmanager")
WORDING = (cst.BaseString, cst.Raise)


class Redecorate(cst.CSTTransformer):
    """`@property def f` becomes `def f` and `f = property(f)`."""

    def leave_FunctionDef(self, original_node: cst.FunctionDef, updated_node: cst.FunctionDef) -> Any:
        match updated_node.decorators:
            case [cst.Decorator(decorator=cst.Name(value=name))] if name in REDECORATED:
                function = updated_node.name.value
                applied = cst.parse_statement(f"{function} = {name}({function})")
                return cst.FlattenSentinel([updated_node.with_changes(decorators=[]), applied])
        return updated_node


def within(node: cst.CSTNode, kinds: tuple[type, ...], inside: bool = False) -> Iterator[cst.CSTNode]:
    """The nodes of these kinds, with everything below them."""
    inside = inside or isinstance(node, kinds)
    if inside:
        yield node
    for child in node.children:
        yield from within(child, kinds, inside)


def leaves_out(mutation: file_mutation.Mutation) -> bool:
    """Whether it leaves an argument out: most often a TypeError, else the same question as None in its place, which is asked."""
    match mutation.original_node, mutation.mutated_node:
        case cst.Call(args=before), cst.Call(args=after):
            return len(after) < len(before)
    return False


def choose(group: dict[str, Any], seed: int) -> None:
    """Make mutmut create only the mutants that the group asks for."""
    create = file_mutation.create_mutations
    only, apart, sample = set(group["only"]), set(group["called_at_import"]), group["sample"]

    def asked(function: cst.FunctionDef | None) -> bool:
        if not isinstance(function, cst.FunctionDef):
            return False
        return function.name.value in only if only else function.name.value not in apart

    def chosen(filename: str, code: str, *covered: Any) -> Any:
        module, mutations, *ignored = create(filename, code, *covered)
        wording = {id(node) for node in within(module, WORDING)}
        kept = [
            each for each in mutations
            if asked(each.contained_by_top_level_function) and id(each.original_node) not in wording and not leaves_out(each)
        ]
        if sample is not None and len(kept) > sample:
            drawn = random.Random(f"{seed} {filename}").sample(range(len(kept)), sample)
            kept = [kept[number] for number in sorted(drawn)]
        return module, kept, *ignored

    file_mutation.create_mutations = chosen


def judge_by_all() -> None:
    """Run every test for every mutant: what is called while modules are imported is seen to be reached by the first test alone."""
    collect = mutmut.collect_or_load_stats

    def collected(*given: Any, **named: Any) -> None:
        collect(*given, **named)
        for tests in state().tests_by_mangled_function_name.values():
            tests.update(state().duration_by_test)

    mutmut.collect_or_load_stats = collected


def outcomes(files: list[Path]) -> list[dict[str, str]]:
    """Each mutant with what became of it; of those that no test noticed, the changed lines too."""
    found = []
    for path in files:
        data = SourceFileMutationData(path=path)
        data.load()
        for name, code in data.exit_code_by_key.items():
            status = status_by_exit_code[code]
            diff = "" if status == "killed" else get_diff_for_mutant(name, path=path)
            found.append({"module": str(path), "mutant": name, "status": status, "diff": diff})
    return found


def main() -> None:
    """argv: the group as JSON, the seed, and where to write."""
    group, seed, out = json.loads(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    files = [Path(name) for name in group["files"]]
    for path in files:
        path.write_text(cst.parse_module(path.read_text(encoding="utf-8")).visit(Redecorate()).code, encoding="utf-8")
    os.environ["MUTATION_POSTGRES"] = "1" if group["postgres"] else "0"
    chosen = config()
    chosen.only_mutate = group["files"]
    chosen.pytest_add_cli_args_test_selection = [f"tests/{name}" for name in group["tests"]]
    if group["fresh"]:
        chosen.process_isolation, chosen.forkserver_warmup = ProcessIsolation.FORKSERVER, ForkServerWarmup.NONE
        judge_by_all()
    choose(group, seed)
    mutmut._run(tuple(group["mutants"]), 1)
    out.write_text(json.dumps(outcomes(files)), encoding="utf-8")


if __name__ == "__main__":
    main()
