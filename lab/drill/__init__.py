"""The drill: inject faults into a fleet at work, and prove by SQL that no accepted job was lost or took effect twice."""
