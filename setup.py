"""Packages: what pyproject.toml cannot say. The metadata is there."""

from setuptools import find_packages, setup

setup(
    # With package_dir both `pip install .` and `pip install -e .` show the plugin. There is no __init__.py in twisted/ or twisted/plugins/, and
    # must never be: installing it would overwrite Twisted's own.
    package_dir={"": "."},
    packages=[*find_packages(include=["twisted_smtplite", "twisted_smtplite.*"]), "twisted.plugins"],
    package_data={"twisted_smtplite": ["py.typed"], "twisted.plugins": ["twisted_smtplite_plugin.py"]},
)
