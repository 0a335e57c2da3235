"""The drivers that come with the package: `local`, `rocketmq`, `http`.

Imported only when a URL names them.
"""
