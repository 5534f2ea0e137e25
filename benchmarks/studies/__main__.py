from benchmarks import measure
from benchmarks.studies.run import main

if __name__ == "__main__":
    measure.command(main)
