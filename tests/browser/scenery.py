"""Fifty realistic checks: databases, web shops, certificates, switches."""

from pathlib import Path

TEAMS = ("orders", "billing", "search", "reports")
SHOPS = ("shop", "blog", "docs", "status", "login", "search", "careers", "api", "partners", "support")
PAYING = ("shop", "api")
SWITCHES = ("core-1", "core-2", "edge-1", "edge-2", "lab", "floor-1", "floor-2", "floor-3")


def _databases() -> dict[str, str]:
    return {
        f"postgres.d/db-{number:02}": f"""
  - name: db-{number:02}
    host: db-{number:02}.example.com
    port: 5432
    username: datadog
    password: ENC[db_{number:02}]
    tags: [team:{TEAMS[number % 4]}, "role:{"replica" if number % 3 else "primary"}"]"""
        for number in range(1, 17)
    }


def _shops() -> dict[str, str]:
    return {
        f"http_check.d/{shop}": f"""
  - name: {shop}
    url: https://{shop}.example.com/health
    timeout: 5
    min_collection_interval: 30
    tags: [team:{"payments" if shop in PAYING else "web"}]"""
        for shop in SHOPS
    }


def _certificates() -> dict[str, str]:
    return {
        f"tls.d/{shop}": f"""
  - name: {shop}
    server: {shop}.example.com
    port: 443
    min_collection_interval: 300"""
        for shop in SHOPS
    }


def _switches() -> dict[str, str]:
    return {
        f"snmp.d/{switch}": f"""
  - name: {switch}
    ip_address: 192.0.2.{number}
    snmp_version: 2
    community_string: ENC[snmp]
    min_collection_interval: 60"""
        for number, switch in enumerate(SWITCHES, 10)
    }


def _queues() -> dict[str, str]:
    return {
        f"redisdb.d/{name}": f"""
  - name: {name}
    host: {name}.example.com
    port: 6379"""
        for name in ("sessions", "carts", "jobs", "limits", "cache", "feeds")
    }


def write(confd: Path) -> int:
    """Write a config file for each check; return their number."""
    checks = {**_databases(), **_shops(), **_certificates(), **_switches(), **_queues()}
    for name, instance in checks.items():
        write_check(confd / f"{name}.yaml", instance)
    return len(checks)


def write_check(file: Path, instance: str) -> None:
    """Write a config file with this instance, in YAML."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"cluster_check: true\ninit_config:\ninstances:{instance}\n")
