"""Speed, measured as ratios against a peer in the same run. Nothing here is asserted by a test."""
