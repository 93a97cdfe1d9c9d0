"""The chart: rendered by Helm itself, checked against Kubernetes' schemas, and against what the code says.

No cluster runs here. Airflow's own chart is fetched by `helm dependency update docker/helm/nightshift`; where that was
done, it is rendered too.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from starlette.datastructures import Headers

from nightshift.bootstrap import pip_settings, uv_environment
from nightshift.parts import SINGLE
from nightshift.seats import SEATS
from nightshift.settings import PROJECT, Settings
from serving.edge import MACHINES, Problem, check_site, host_names
from tests.conftest import free_port
from tests.production.roles import image, packages

HELM = PROJECT / "docker" / "helm"
CHART = HELM / "nightshift"
TOOLS = ("helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0", "pyyaml")  # Helm 4.2
WITHOUT_AIRFLOW = {"airflow": {"enabled": False}}
MINIMAL, PRODUCTION = [str(HELM / "values" / "minimal.yaml")], [str(HELM / "values" / "production.yaml")]
ON_CARDS = [*PRODUCTION, str(HELM / "values" / "gpu.yaml")]
SECRET_SETTINGS = {
    name for name, field in Settings.model_fields.items() if "SecretStr" in str(field.annotation)
}
CASES: dict[str, dict[str, Any]] = {
    "minimal": {"values": MINIMAL, "set": WITHOUT_AIRFLOW},
    "production": {"values": PRODUCTION, "set": WITHOUT_AIRFLOW},
    "cards": {"values": ON_CARDS, "set": WITHOUT_AIRFLOW},
    "closed": {"values": MINIMAL, "set": {**WITHOUT_AIRFLOW, "networkPolicy": {"enabled": False}}},
    "no store": {"values": [], "set": WITHOUT_AIRFLOW},
    "no secrets": {"values": [], "set": {**WITHOUT_AIRFLOW, "settings": {"store_url": "s3://b/p"}}},
    "typo": {"values": MINIMAL, "set": {**WITHOUT_AIRFLOW, "settings": {"histroy_days": 8}}},
    "no host": {
        "values": MINIMAL,
        "set": {**WITHOUT_AIRFLOW, "services": {"forecaster": {"ingress": {"enabled": True}}}},
    },
    "misspelt": {
        "values": MINIMAL,
        "set": {**WITHOUT_AIRFLOW, "securityContext": {"readOnlyRootFileSystem": True}},
    },
    **{
        f"open {name}": {"values": MINIMAL, "set": {**WITHOUT_AIRFLOW, "settings": {name: "x"}}}
        for name in SECRET_SETTINGS
    },
}
PAGE = (PROJECT / "docs" / "running" / "kubernetes.md").read_text()
COMMANDS = [
    line
    for block in re.findall(r"```\n(.*?)```|`((?:kubectl|helm) [^`]+)`", PAGE, re.DOTALL)
    for line in "".join(block).splitlines()
]
RENDERED = ("minimal", "production", "cards")
fetched = sorted((CHART / "charts").glob("airflow-*.tgz"))
if fetched:
    CASES["whole"] = {"values": ON_CARDS, "set": {}}


def after(command: str, word: str) -> str:
    """What stands after `word` in a command."""
    words = shlex.split(command)
    return words[words.index(word) + 1]


@pytest.fixture(scope="module")
def tried() -> dict[str, dict[str, Any]]:
    listing = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=False
    ).stdout
    tools = [word for tool in TOOLS for word in ("--with", tool)]
    command = [sys.executable, "-m", "uv", "run", "--quiet", "--no-project", "--isolated"]
    command += ["--python", sys.executable, *tools, "python", str(Path(__file__).with_name("charting.py"))]
    done = subprocess.run(
        [*command, str(CHART)],
        input=json.dumps(CASES),
        env=uv_environment(pip_settings(listing), dict(os.environ)),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        reason = f"the chart's tools cannot be had: {done.stderr.strip()[-500:]}"
        pytest.fail(reason) if os.environ.get("CI") == "true" else pytest.skip(reason)
    return dict(json.loads(done.stdout))


def objects(result: dict[str, Any], kind: str) -> dict[str, dict[str, Any]]:
    return {thing["metadata"]["name"]: thing for thing in result["objects"] if thing["kind"] == kind}


def pods(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Name → template of every pod of ours."""
    for kind in ("Deployment", "Job"):
        for name, thing in objects(result, kind).items():
            yield name, thing["spec"]["template"]


def container(result: dict[str, Any], name: str) -> dict[str, Any]:
    template = dict(pods(result))[name]
    (only,) = template["spec"]["containers"]
    return dict(only)


def parts(template: dict[str, Any]) -> list[dict[str, Any]]:
    """Every container of a pod, those that run before the others included."""
    return [*template["spec"].get("initContainers", []), *template["spec"]["containers"]]


def variables(part: dict[str, Any]) -> dict[str, Any]:
    return {entry["name"]: entry for entry in part["env"]}


@pytest.mark.parametrize("case", RENDERED)
def test_helm_renders_it_and_kubernetes_knows_every_field(tried: dict[str, Any], case: str) -> None:
    result = tried[case]
    assert result["error"] is None
    assert result["invalid"] == []
    told = {message["error"] for message in result["lint"] if message["severity"] > 1}
    assert told <= {"chart directory is missing these dependencies: airflow"}


def test_a_field_that_kubernetes_does_not_know_is_found(tried: dict[str, Any]) -> None:
    faults = " ".join(tried["misspelt"]["invalid"])
    assert "readOnlyRootFileSystem" in faults and "1.30" in faults and "1.37" in faults


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("no store", "settings.store_url is not set"),
        ("no secrets", "secrets.existing names no Secret, and secrets.values has no NIGHTSHIFT_"),
        ("typo", "histroy_days"),
        ("no host", "the ingress of forecaster is enabled, but has no host"),
        *((f"open {name}", name) for name in sorted(SECRET_SETTINGS)),
    ],
)
def test_values_that_cannot_work_or_would_lay_a_secret_open_are_refused(
    tried: dict[str, Any], case: str, said: str
) -> None:
    assert said in str(tried[case]["error"])


def test_the_schema_knows_every_setting_that_is_no_secret() -> None:
    known = json.loads((CHART / "values.schema.json").read_text())["properties"]["settings"]["propertyNames"]
    # What the chart itself says, or what is Airflow's and set by its chart.
    made_here = {"home", "host", "mlflow_url", "mlflow_port", "mlflow_artifacts_url", "mlflow_hosts"}
    made_here |= {
        seat.port.replace("_port", ending) for seat in SEATS.values() for ending in ("_port", "_url")
    }
    made_here |= {name for name in Settings.model_fields if name.startswith("airflow_")}
    assert set(known["enum"]) == set(Settings.model_fields) - SECRET_SETTINGS - made_here, (
        "write the settings into values.schema.json, settings.propertyNames.enum"
    )


@pytest.mark.parametrize("case", RENDERED)
def test_what_the_pods_are_told_are_settings_that_exist(tried: dict[str, Any], case: str) -> None:
    data = objects(tried[case], "ConfigMap")["nightshift-settings"]["data"]
    told = {name: value for name, value in data.items() if name.startswith("NIGHTSHIFT_")}
    given = {name.removeprefix("NIGHTSHIFT_").lower(): value for name, value in told.items()}
    assert set(given) <= set(Settings.model_fields) - SECRET_SETTINGS
    Settings(_env_file=None, **given)  # type: ignore[arg-type]  # of the right kind, as texts
    for _, template in pods(tried[case]):
        for part in parts(template):
            ours = {
                name.removeprefix("NIGHTSHIFT_").lower() for name in variables(part) if name[:6] == "NIGHTS"
            }
            assert ours <= set(Settings.model_fields)


@pytest.mark.parametrize("case", RENDERED)
def test_secrets_stand_in_secrets_alone(tried: dict[str, Any], case: str) -> None:
    result = tried[case]
    hidden = {
        text
        for secret in objects(result, "Secret").values()
        for text in (
            *secret.get("stringData", {}).values(),
            *(base64.b64decode(value).decode() for value in secret.get("data", {}).values()),
        )
        if len(text) > 8
    }
    elsewhere = [thing for thing in result["objects"] if thing["kind"] != "Secret"]
    said = json.dumps(elsewhere) + result["notes"]
    assert hidden and not [text for text in hidden if text in said]
    if case != "minimal":
        assert "nightshift-stores" not in objects(result, "Secret"), "it is the user's own"


def test_a_pod_gets_the_secrets_it_uses_and_all_of_them_exist(tried: dict[str, Any]) -> None:
    result = tried["minimal"]
    kept = {
        name: set(secret.get("stringData", {})) | set(secret.get("data", {}))
        for name, secret in objects(result, "Secret").items()
    }
    for name, template in pods(result):
        for part in parts(template):
            for entry in variables(part).values():
                wanted = entry.get("valueFrom", {}).get("secretKeyRef")
                assert wanted is None or wanted["key"] in kept[wanted["name"]], f"{name}: {entry}"
    profiles = [
        name for name, _ in pods(result) if "NIGHTSHIFT_PROFILES_URL" in variables(container(result, name))
    ]
    assert profiles == ["nightshift-language"], "who somebody is, the coach alone may read"


def test_the_pages_commands_name_one_namespace_and_release_and_files_that_exist() -> None:
    assert {command.split()[0] for command in COMMANDS} == {"kubectl", "helm"} and len(COMMANDS) == 8
    namespace = after(next(c for c in COMMANDS if "create namespace" in c), "namespace")
    for command in COMMANDS:
        if "create namespace" not in command and "dependency" not in command:
            assert after(command, "-n") == namespace, command
        for path in re.findall(r"docker/\S+", command):
            assert (PROJECT / path).exists(), command
    charts = [c for c in COMMANDS if c.startswith("helm")]
    assert all("docker/helm/nightshift" in shlex.split(c) for c in charts)
    releases = {after(c, verb) for c in charts for verb in ("install", "upgrade") if verb in c.split()}
    assert len(releases) == 1 and f"| `{releases.pop()}-api-server` |" in PAGE
    dependencies = yaml.safe_load((CHART / "Chart.yaml").read_text())["dependencies"]
    assert dependencies, "helm dependency update would have nothing to fetch"


def test_the_values_that_the_page_names_are_values_of_the_chart() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    values["services"] = {name: {**values["service"], **own} for name, own in values["services"].items()}
    named = [
        name for name in re.findall(r"`([a-z]\w*(?:\.\w+)+)(?:=\w+)?`", PAGE) if name.split(".")[0] in values
    ]
    assert {"services.language.enabled", "networkPolicy.clients", "secrets.logins"} <= set(named)
    for name in named:
        if name.startswith("airflow.config."):  # any option of Airflow's may be added there
            continue
        found = values
        for key in name.split("."):
            assert key in found, f"{name} is no value of the chart"
            found = found[key]


def test_the_secrets_that_the_page_makes_are_those_that_are_read(tried: dict[str, Any]) -> None:
    made = {after(c, "generic"): c for c in COMMANDS if "create secret" in c}
    airflow = yaml.safe_load((CHART / "values.yaml").read_text())["airflow"]
    database = airflow["data"]["metadataSecretName"]
    production = yaml.safe_load(Path(PRODUCTION[0]).read_text())
    assert set(made) == {production["secrets"]["existing"], database}
    assert "--from-file=connection=" in made[database], "the key that Airflow's chart reads"
    own = set(objects(tried["production"], "Secret"))
    read = {
        entry["valueFrom"]["secretKeyRef"]["name"]
        for _, template in pods(tried["production"])
        for part in parts(template)
        for entry in variables(part).values()
        if "secretKeyRef" in entry.get("valueFrom", {})
    }
    assert read <= {*made, *own} and not own & set(made)


@pytest.mark.parametrize("case", RENDERED)
def test_what_is_said_after_an_install_names_services_and_ports_that_are_there(
    tried: dict[str, Any], case: str
) -> None:
    services = objects(tried[case], "Service")
    told = re.findall(r"kubectl -n ml port-forward svc/(\S+) (\d+)", tried[case]["notes"])
    there = {(name, str(port["port"])) for name, thing in services.items() for port in thing["spec"]["ports"]}
    assert told and set(told) == there
    assert any(objects(tried[case], "Deployment")), "kubectl rollout restart deployment"


@pytest.mark.parametrize("case", RENDERED)
def test_every_selector_finds_the_pods_it_is_named_after(tried: dict[str, Any], case: str) -> None:
    result = tried[case]
    labels = {name: template["metadata"]["labels"] for name, template in pods(result)}
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy", "Deployment"):
        for name, thing in objects(result, kind).items():
            spec = thing["spec"]
            selector = spec.get("podSelector") or spec.get("selector", {})
            wanted = selector.get("matchLabels", selector)
            assert [pod for pod, has in labels.items() if wanted.items() <= has.items()] == [name], (
                kind,
                name,
            )
    for name, thing in objects(result, "HorizontalPodAutoscaler").items():
        assert thing["spec"]["scaleTargetRef"]["name"] == name and name in labels
        assert "replicas" not in objects(result, "Deployment")[name]["spec"], "two would set it in turns"
        (part,) = dict(pods(result))[name]["spec"]["containers"]
        assert part["resources"]["requests"]["cpu"], "percent of nothing"


def test_services_scale_and_outlive_a_drained_node(tried: dict[str, Any]) -> None:
    production = tried["production"]
    services = {f"nightshift-{seat}" for seat in SEATS}
    assert set(objects(production, "HorizontalPodAutoscaler")) == services
    assert set(objects(production, "PodDisruptionBudget")) == services | {"nightshift-mlflow"}
    assert not objects(tried["minimal"], "HorizontalPodAutoscaler")


@pytest.mark.parametrize("seat", SEATS.values(), ids=lambda seat: seat.name)
def test_a_service_is_started_as_the_stack_starts_it_and_asked_how_it_is(
    tried: dict[str, Any], seat: Any
) -> None:
    part = container(tried["minimal"], f"nightshift-{seat.name}")
    port = Settings.model_fields[seat.port].default
    settings = objects(tried["minimal"], "ConfigMap")["nightshift-settings"]["data"]
    assert part["command"] == ["python", "-m", "nightshift.parts", seat.name] and seat.name in SINGLE
    assert settings[f"NIGHTSHIFT_{seat.port.upper()}"] == str(port)
    address = settings[f"NIGHTSHIFT_{seat.port.upper().replace('_PORT', '_URL')}"]
    assert address == f"http://nightshift-{seat.name}:{port}"
    (service,) = objects(tried["minimal"], "Service")[f"nightshift-{seat.name}"]["spec"]["ports"]
    assert service["port"] == port and part["ports"] == [{"name": "http", "containerPort": port}]
    probes = {name: part[f"{name}Probe"]["httpGet"]["path"] for name in ("startup", "readiness", "liveness")}
    assert probes == {"startup": "/readyz", "readiness": "/readyz", "liveness": "/livez"}
    assert set(probes.values()) <= MACHINES, "answered whatever the host name"


def test_a_service_answers_to_its_names_in_the_cluster_and_at_the_ingress_and_to_no_other(
    tried: dict[str, Any],
) -> None:
    said = variables(container(tried["production"], "nightshift-forecaster"))["NIGHTSHIFT_SERVING_HOSTS"][
        "value"
    ]
    hosts = host_names(Settings(_env_file=None, serving_hosts=said))
    for host in (
        "nightshift-forecaster:3001",
        "nightshift-forecaster.ml.svc.cluster.local",
        "forecast.example.com",
    ):
        check_site(Headers({"host": host}), hosts)
    with pytest.raises(Problem):
        check_site(Headers({"host": "coach.example.com"}), hosts)


@pytest.mark.parametrize("case", RENDERED)
def test_pods_run_as_nobody_in_particular_and_write_to_scratch_alone(
    tried: dict[str, Any], case: str
) -> None:
    for name, template in pods(tried[case]):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for part in parts(template):
            context = part["securityContext"]
            assert context["readOnlyRootFilesystem"] is True and context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}
            assert part["resources"]["limits"]["memory"] and part["resources"]["requests"]["memory"]
            writable = {mount["name"] for mount in part["volumeMounts"] if not mount.get("readOnly")}
            assert all("emptyDir" in volume for volume in spec["volumes"] if volume["name"] in writable), name


def test_only_pods_of_the_release_may_call_until_somebody_else_is_named(tried: dict[str, Any]) -> None:
    policies = objects(tried["minimal"], "NetworkPolicy")
    assert set(policies) == {*(f"nightshift-{seat}" for seat in SEATS), "nightshift-mlflow"}
    for policy in policies.values():
        (rule,) = policy["spec"]["ingress"]
        assert [list(peer) for peer in rule["from"]] == [["podSelector"], ["podSelector"]]
    assert not objects(tried["closed"], "NetworkPolicy")
    named = objects(tried["production"], "NetworkPolicy")["nightshift-forecaster"]["spec"]
    assert len(named["ingress"][0]["from"]) == 4 and "Egress" in named["policyTypes"]


def test_the_coach_has_a_card_of_its_own_and_asks_nobody_for_it(tried: dict[str, Any]) -> None:
    result = tried["cards"]
    assert container(result, "nightshift-language")["resources"]["limits"]["nvidia.com/gpu"] == 1
    rolling = objects(result, "Deployment")["nightshift-language"]["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxUnavailable": 1, "maxSurge": 0}, "a second pod would wait for a card for ever"
    for case in RENDERED:
        settings = objects(tried[case], "ConfigMap")["nightshift-settings"]["data"]
        assert settings["NIGHTSHIFT_LANGUAGE_LEASE"] == "never"
        others = [
            name for name, _ in pods(tried[case]) if "nvidia" in json.dumps(container(tried[case], name))
        ]
        assert others == (["nightshift-language"] if case == "cards" else [])


def test_what_airflow_is_told_fits_what_this_chart_makes() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    airflow = values["airflow"]
    made = f"{values['name']}-airflow"
    names = [airflow[key] for key in ("fernetKeySecretName", "apiSecretKeySecretName", "jwtSecretName")]
    assert names == [made] * 3
    tasks = {
        entry["name"]: entry["valueFrom"]["secretKeyRef"] for entry in airflow["workers"]["kubernetes"]["env"]
    }
    for name, wanted in tasks.items():
        assert wanted["key"] == name
        assert wanted["name"] == f"{values['name']}-" + ("logins" if name.startswith("MLFLOW") else "stores")
    assert {
        name.removeprefix("NIGHTSHIFT_").lower() for name in tasks if name[:6] == "NIGHTS"
    } <= SECRET_SETTINGS
    assert airflow["config"]["core"]["dags_folder"].endswith("/dags")
    assert f"name: {values['name']}-settings" in airflow["extraEnvFrom"]


def test_airflow_knows_every_option_that_it_is_given() -> None:
    """An option that a newer Airflow has dropped is ignored in silence."""
    import airflow
    from airflow.providers.cncf.kubernetes.get_provider_info import get_provider_info

    own = Path(airflow.__file__).parent / "config_templates" / "config.yml"
    known = {**yaml.safe_load(own.read_text()), **get_provider_info()["config"]}
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for group, options in values["airflow"]["config"].items():
        assert set(options) <= set(known[group]["options"]), group
    assert values["airflow"]["airflowVersion"] == airflow.__version__


@pytest.mark.parametrize("role", ["airflow", "training"])
def test_the_images_of_airflow_and_of_its_tasks_have_the_executor(role: str) -> None:
    extras = image(PROJECT / "docker" / role / "Dockerfile").extras
    assert "apache-airflow-providers-cncf-kubernetes" in packages(extras)


@pytest.mark.skipif(
    not fetched, reason="Airflow's chart is not here: helm dependency update docker/helm/nightshift"
)
def test_with_airflows_chart_a_task_that_needs_the_card_gets_a_pod_with_one(tried: dict[str, Any]) -> None:
    from airflow.providers.cncf.kubernetes.pod_generator import PodGenerator

    result = tried["whole"]
    assert result["error"] is None and result["invalid"] == []
    pod = yaml.safe_load(
        objects(result, "ConfigMap")["nightshift-gpu-pod-template"]["data"]["pod_template_file.yaml"]
    )
    (base,) = pod["spec"]["containers"]
    assert base["image"].endswith("nightshift/training:0.1.0-cuda") and base["name"] == "base"
    assert base["resources"]["limits"]["nvidia.com/gpu"] == 1
    said = json.dumps(result["objects"])
    assert not [path for path in ("/entrypoint", "/clean-logs") if path in said], (
        "of Airflow's own image alone"
    )
    read = PodGenerator.deserialize_model_dict(pod)  # as the executor does
    assert read.spec.containers[0].resources.limits["nvidia.com/gpu"] == "1"
    scheduler = json.dumps(objects(result, "Deployment")["night-scheduler"])
    path = variables(base)["NIGHTSHIFT_GPU_POD_TEMPLATE"]["value"]
    assert Path(path).name == "pod_template_file.yaml" and str(Path(path).parent) in scheduler
    labels = pod["metadata"]["labels"]
    rule = objects(result, "NetworkPolicy")["nightshift-mlflow"]["spec"]["ingress"][0]
    assert any(peer["podSelector"]["matchLabels"].items() <= labels.items() for peer in rule["from"][:2])


def test_mlflow_starts_by_the_charts_own_words_wants_a_login_and_knows_its_names(
    tried: dict[str, Any], tmp_path: Path
) -> None:
    """The very command and variables of the pod, on a free port, with SQLite and a folder in the stores' places."""
    part, port = container(tried["minimal"], "nightshift-mlflow"), free_port()
    (migrate,) = dict(pods(tried["minimal"]))["nightshift-mlflow"]["spec"]["initContainers"]
    given = {name: entry["value"] for name, entry in variables(part).items() if "value" in entry}
    home = tmp_path / "100%"  # a sign that means something in the file of MLflow's users
    home.mkdir()
    surroundings = {
        n: v for n, v in os.environ.items() if not n.startswith(("MLFLOW_", "AWS_", "NIGHTSHIFT_"))
    }
    environment = {
        **surroundings,
        **objects(tried["minimal"], "ConfigMap")["nightshift-settings"]["data"],
        **given,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(PROJECT),
        "NIGHTSHIFT_HOME": str(home),
        "NIGHTSHIFT_HOST": "127.0.0.1",
        "NIGHTSHIFT_MLFLOW_PORT": str(port),
        "NIGHTSHIFT_MLFLOW_ARTIFACTS_URL": str(home / "artifacts"),
        "NIGHTSHIFT_MLFLOW_BACKEND_URL": f"sqlite:///{home / 'mlflow.db'}",
        "NIGHTSHIFT_MLFLOW_SESSION_SECRET": "k" * 32,
        "MLFLOW_TRACKING_USERNAME": "admin",
        "MLFLOW_TRACKING_PASSWORD": "correct-horse-battery",
    }
    subprocess.run(migrate["command"], env=environment, cwd=tmp_path, check=True, capture_output=True)
    words = part["command"]
    log = (tmp_path / "log").open("w")
    server = subprocess.Popen(
        words, env=environment, cwd=tmp_path, stdout=log, stderr=log, start_new_session=True
    )
    try:
        address = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 180
        while not _healthy(f"{address}{part['readinessProbe']['httpGet']['path']}"):
            assert server.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[
                -2_000:
            ]
            time.sleep(0.5)
        asked = f"{address}/api/2.0/mlflow/experiments/search?max_results=1"
        login = ("admin", "correct-horse-battery")
        assert httpx.get(asked, trust_env=False).status_code == 401
        assert httpx.get(asked, auth=login, trust_env=False).status_code == 200
        named = {"host": f"nightshift-mlflow.ml.svc:{port}"}
        assert httpx.get(asked, auth=login, headers=named, trust_env=False).status_code == 200
        assert httpx.get(asked, auth=login, headers={"host": "evil.test"}, trust_env=False).status_code == 403
        kept = [path for path in home.rglob("*.ini") if stat.S_IMODE(path.stat().st_mode) != 0o600]
        assert list(home.rglob("*.ini")) and not kept, "the address of the users' database is a secret"
    finally:
        os.killpg(server.pid, 15)
        server.wait(30)
        log.close()


def _healthy(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
