"""All that needs a GPU, in one command: tests, a search for better plans, sweeps, sites, networks, kernels launched.

    python -m benchmarks.gpu --results OUT --minutes 9
    python -m benchmarks.gpu --only tests networks
    python -m benchmarks.gpu --dry-run

Each part is a list of cases, the most wanted first; each case adds one line to ``gpu-PART.jsonl`` as soon as it is
measured, with the device and the versions. Run again, the command goes on where it stopped: a case is measured once
for a state of the sources. Nothing is timed before the tests passed there. The dry run takes every case through the
same code with tiny networks and maps on the CPU, and looks whether the lines are complete; under
``TRITON_INTERPRET=1`` it goes through plans as well.
"""
