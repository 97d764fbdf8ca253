"""Programs, libraries and wheels for boards, compiled here, and run here in emulation."""
