"""Break the kit on purpose, one place at a time, and check that its tests notice.

The faults of a role are in molecule/<role>/mutants.yml and are tried on the hosts of that role's scenario; those in
tests/mutants/ need no host, and unit tests must notice them. Each is made in a scratch copy of the working tree. A fault is
caught if the test that it names fails by an assertion, and passes again once the fault is removed.
"""
