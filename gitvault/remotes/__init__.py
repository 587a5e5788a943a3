"""Vaults in places that outlive this machine: object stores, SFTP servers, folders elsewhere."""
