"""What SAM 2 is: torch only; no files, no pictures, no state of any picture."""
