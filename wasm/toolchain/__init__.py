"""What building and testing the browser wheel needs: fetched, verified, patched."""
