"""Reads run folders and shows them: tables, figures and one self-contained page."""
