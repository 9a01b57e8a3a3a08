"""What several test files share: synthetic patients, small grids, page readers."""
