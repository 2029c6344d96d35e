"""Break the kit on purpose, one place at a time, and see that its tests notice.

The faults of a role are listed in molecule/<role>/mutants.yml and tried on the hosts of that role's scenario; those of
tests/mutants/ need no host and are asked of unit tests. Each is made in a scratch copy of the working tree. A fault is caught
if the test that it names fails by an assertion, and passes again once the fault is taken out.
"""
