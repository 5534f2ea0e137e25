"""The paper's studies (Sec. 4.3 to 4.5, Table 4) and our leads, as commands: `python -m benchmarks.studies STUDY`."""
