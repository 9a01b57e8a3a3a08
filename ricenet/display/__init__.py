"""What pages and figures share: the HTML shell and templates, the volume viewer."""
