"""A third site by the recipe of CONTRIBUTING.md, "Add a source": two files, tried by test_third_site.py."""
