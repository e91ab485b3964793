"""Backups: the database's rows and the artifacts that they name, in a folder or a bucket
(docs/decisions/017-backups.md).

    backup.json              what is in it; written last, so that without it there is no backup
    tables/<name>.jsonl.gz   a table's rows, a JSON object each
    artifacts/<path>         as in the artifact store
"""
