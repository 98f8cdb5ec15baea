"""Long work whose results are safe while it runs: folders of labels, and whom they belong to."""
