"""Whether a fault is caught, and whether only the fault was the cause."""

from __future__ import annotations

import time
from dataclasses import dataclass

from lab.mutants.answers import Answer
from lab.mutants.faults import UNIT, Fault
from lab.mutants.scratch import Hosts, Run, Scratch

SHOWN_LINES = 40


@dataclass(frozen=True)
class Verdict:
    """by: the assertion or refusal that noticed the fault. problem: why it is not caught. printed: the output of that run.

    rebuilt: the fault left something that a run without it does not repair, so the hosts were made again.
    """

    role: str
    fault: Fault
    by: str = ""
    problem: str = ""
    printed: str = ""
    seconds: float = 0
    rebuilt: bool = False

    @property
    def caught(self) -> bool:
        return not self.problem

    def lines(self) -> list[str]:
        """For people: one line, and for a missed fault all details."""
        ended = f"{'caught' if self.caught else 'MISSED'}{' (hosts rebuilt)' if self.rebuilt else ''}"
        lines = [f"  {ended}  {self.seconds:4.0f} s  {self.role}: {self.fault.fault}"]
        if not self.caught:
            fault = self.fault
            lines += [f"    {self.problem}", f"    file: {fault.file}", f"    find: {fault.find!r}"]
            lines += [f"    replace: {fault.replace!r}", f"    test: {fault.test}"]
            lines += [f"    | {line}" for line in self.printed.splitlines()[-SHOWN_LINES:]]
        return lines


def first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def noticed(fault: Fault, brought: Run, tested: tuple[Answer, str] | None) -> tuple[str, str, str]:
    """(by, problem, printed) of a fault after its converge, and after its test if the converge succeeded."""
    if not brought.ok and "UNREACHABLE!" in brought.output:
        return "", "a host was unreachable, which proves nothing about the fault; try it again", brought.output
    if fault.refused is not None:
        if brought.ok:
            return "", "the role converged, although the fault's entry expects a refusal", brought.output
        if " ".join(fault.refused.split()) not in " ".join(brought.output.split()):
            return "", f"the converge failed without the sentence '{fault.refused}'", brought.output
        return fault.refused, "", ""
    if not brought.ok or tested is None:
        return "", "the converge failed, and the fault's entry has no `refused` with the sentence expected", brought.output
    verdict, printed = tested
    if verdict.verdict == "passed":
        return "", "the test passes with the fault", printed
    if verdict.verdict == "none":
        return "", f"the test gave no verdict: {first_line(verdict.message)}", printed
    return first_line(verdict.message), "", ""


def mended(scratch: Scratch, fault: Fault) -> tuple[str, str, bool]:
    """(problem, printed, rebuilt) without the fault: the test must pass, if necessary on new hosts."""
    problem, printed = "", ""
    for fresh in (False, True):
        done = scratch.bring(fault, blank=fresh)
        if not done.ok:
            problem, printed = "the sound role does not converge", done.output
            continue
        verdict, printed = scratch.ask(fault)
        if verdict.verdict == "passed":
            return "", "", fresh
        problem = f"the test does not pass without the fault: {first_line(verdict.message)}"
    return problem, printed, True


def try_fault(scratch: Scratch, fault: Fault) -> Verdict:
    started = time.monotonic()
    with scratch.broken(fault):
        brought = scratch.bring(fault, blank=fault.blank)
        tested = scratch.ask(fault) if brought.ok and fault.refused is None else None
    by, problem, printed = noticed(fault, brought, tested)
    unsound, shown, rebuilt = mended(scratch, fault)
    if unsound:
        problem, printed = unsound, shown
    verdict = Verdict(scratch.role, fault, by, problem, printed, time.monotonic() - started, rebuilt)
    print("\n".join(verdict.lines()), flush=True)
    return verdict


def try_role(role: str, faults: list[Fault]) -> list[Verdict]:
    scratch = Scratch(role) if role == UNIT else Hosts(role)
    try:
        started = scratch.start()
        if not started.ok:
            verdicts = [Verdict(role, fault, "", "the sound role does not converge on blank hosts") for fault in faults]
            print(f"  {role}: {verdicts[0].problem}; see {scratch.log}", flush=True)
            return verdicts
        return [try_fault(scratch, fault) for fault in faults]
    finally:
        scratch.end()
