"""newsroom takes videos over HTTP and makes each playable on the web, in the background."""
