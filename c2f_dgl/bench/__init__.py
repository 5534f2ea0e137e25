"""Systems side by side: the same data, budget, trainer and evaluation, each run in a process of its own."""
