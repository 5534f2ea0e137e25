"""The paper's studies (Sec. 4.3 to 4.5, Table 4) and our leads, as commands: `python -m benchmarks.studies STUDY`.

`spec` says what a study is, `catalogue` lists them, `run` trains and records, `significance` tests differences,
`report` writes tables, figures and verdicts from the records.
"""
