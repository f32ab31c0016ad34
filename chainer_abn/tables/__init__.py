"""The paper's tables as data, and what trains their cells and shows them.

    python -m chainer_abn.tables list table1
    python -m chainer_abn.tables run table1 --rows resnet20
    python -m chainer_abn.tables show table1
"""
from chainer_abn.tables.paper import TABLES
