"""Measurements of sknets beside scikit-learn, skorch and plain torch; README.md says how."""
