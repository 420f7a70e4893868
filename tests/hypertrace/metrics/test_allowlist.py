"""Props that may become labels."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from hypertrace import Tracer, set_trace_function
from hypertrace.metrics import Metrics
from hypertrace.metrics.allowlist import label_names, looks_secret

from .readings import samples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

SECRETS = """
    password passwords passwd pwd passphrase pass-phrase passcode pass_word Password PASSWORD
    PassWord password2 user_password userPassword dbpassword new-password password_hash userPwd
    user_pass db-pass credential credentials awsCredentials
    secret secrets client_secret clientSecret clientsecret CLIENT_SECRET secret_key SECRETKEY
    token auth_token AUTH_TOKEN authToken authtoken accessToken access_tokens refresh-token
    csrf_token csrf x-xsrf-token id_token tokenValue token2 jwt userJWT bearer bearer_token
    authorization Authorization AUTHORIZATION authorisation proxy-authorization authorization_url
    auth x-auth X-Auth auth_header authHeader auth-code basic_auth http-auth
    api_key apikey apiKey APIKey APIkey APIKEY x-api-key X-API-Key api_keys api.key
    access_key accessKeyId AWS_ACCESS_KEY_ID private_key privateKey privatekey ssh_key signing-key
    encryptionKey session_key cookie cookies set-cookie setCookie session_cookie
    session_id sessionid sessionId SessionID JSESSIONID PHPSESSID sess_id otp totp cvv ssn
    dsn sentryDSN SENTRY_DSN connection_string connectionString conn_str database_url DATABASE-URL
    dbUrl redis_uri brokerUrl priv_key rsa_key aesKey hmac-key cvc cvc2 card_number cardNumber
    creditCardNumber mfa_code verification_code verificationCode recovery-codes backup_codes
    seed_phrase recoveryPhrase
"""

HARMLESS = """
    topic peer peer-id user_id town channel outcome status id ids size weight account region
    tokenizer tokenized tokens max_tokens prompt_tokens token_count tokenCount token_type
    token_length author authors author_id authority authorized authenticated auth_method
    auth_type oauth oauth_provider secretary secretariat password_length passwordLength
    password_policy cookie_policy cookie_name cookies_enabled compass compass_word passenger
    passed bypass first_pass passive passport passport_id keyboard key keys cache_key primary_key
    public_key routing_key partition_key keyword monkey turkey session sessions session_count
    session_type possession assess obsession_idea access access_level private api api_version
    signature design token_expired secret_name api_key_name bearerless broken stroke
    hotpot cotton größe dns dsns_count card card_type number code codes status_code country_code
    zip_code error_code connection connections connection_type string url callback_url uri phrase
    database db redis broker dashboard_url backup recovery verification seed
"""


@pytest.mark.parametrize("prop", str.split(SECRETS))
def test_a_name_of_a_secret_is_refused(prop: str) -> None:
    """However it is written, a name that says that its values are secrets raises."""
    assert looks_secret(prop)
    with pytest.raises(ValueError, match="looks like a secret"):
        label_names(["topic", prop])


@pytest.mark.parametrize("prop", str.split(HARMLESS))
def test_a_name_that_only_resembles_one_is_taken(prop: str) -> None:
    """Names with a word that merely begins, ends or is built like that of a secret are no alarm."""
    assert not looks_secret(prop)
    assert prop in label_names([prop])


@pytest.mark.parametrize(
    ("prop", "label"),
    [
        ("le", "le"),
        ("quantile", "quantile"),
        ("job", "job"),
        ("instance", "instance"),
        ("__name__", "__name__"),
        ("__x", "__x"),
        ("--x", "__x"),
    ],
)
def test_a_name_of_a_reserved_label_is_refused(prop: str, label: str) -> None:
    """A prop that is called like a label of Prometheus raises, and both are named."""
    with pytest.raises(ValueError, match=rf"allowed_props '{prop}' is called like '{label}'"):
        label_names([prop])


@pytest.mark.parametrize("prop", ["LE", "job_id", "_x", "x__", "les"])
def test_a_name_that_is_not_reserved_is_taken(prop: str) -> None:
    """Prometheus distinguishes capitals, and reserves whole names."""
    assert label_names([prop]) == {prop: prop}


@pytest.mark.parametrize("prop", ["password", "x-api-key", "job", "__x"])
def test_the_user_may_insist(prop: str) -> None:
    """A name that is given as unsafe, too, is taken; the error says so, and others stay refused."""
    with pytest.raises(ValueError, match=rf"rename it .* give unsafe_props=\['{prop}'\] as well"):
        label_names([prop])
    assert prop in label_names(["topic", prop], [prop])
    with pytest.raises(ValueError, match="'secret' looks like a secret"):
        label_names([prop, "secret"], [prop])


def test_a_harmless_name_may_be_given_as_unsafe() -> None:
    """So that a list written for one version is right for all."""
    assert label_names(["topic"], ["topic"]) == {"topic": "topic"}


def test_what_is_unsafe_must_be_allowed() -> None:
    """A name that is insisted on and not allowed is a mistake, most likely in the spelling."""
    with pytest.raises(ValueError, match="unsafe_props has 'pasword', which is not in allowed_pro"):
        label_names(["password"], ["pasword"])


@pytest.mark.parametrize("what", ["allowed_props", "unsafe_props"])
@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        ("topic", TypeError, r" must be several names: \['topic'\], not 'topic'"),
        (b"topic", TypeError, r" must be several names"),
        (["topic", 7], TypeError, r" must be names \(str\), not 7"),
        ([None], TypeError, r" must be names \(str\), not None"),
        (None, TypeError, r" must be a list of names, \(\) for none, not None"),
        (["topic", ""], ValueError, r" has an empty name; leave it out"),
    ],
)
def test_what_is_no_name_is_refused(
    what: str, names: Iterable[str], error: type[Exception], message: str
) -> None:
    """A mistake in one of the lists raises, and says in which and what to do."""
    with pytest.raises(error, match=what + message):
        label_names(**({"allowed_props": ["topic"]} | {what: names}))


@pytest.mark.parametrize(
    ("allowed", "message"),
    [
        (["a", "b", "a"], "'a' and 'a' would both become .* object_props_a;"),
        (
            ["user-id", "user_id"],
            "'user-id' and 'user_id' would both become the label object_props_user_id; allow one",
        ),
    ],
)
def test_names_that_become_one_label_are_refused(allowed: list[str], message: str) -> None:
    """Two props that would be counted under the same label raise, and both are named."""
    with pytest.raises(ValueError, match=message):
        label_names(allowed)


@pytest.mark.parametrize("kind", [list, tuple, set, iter, dict.fromkeys])
def test_names_may_come_in_any_iterable(
    kind: Callable[[list[str]], Iterable[str]],
) -> None:
    """Any iterable of names will do, also one that can be read but once."""
    names = label_names(kind(["topic", "peer-id", "job"]), kind(["job"]))
    assert names == {"topic": "topic", "peer-id": "peer_id", "job": "job"}


def test_a_name_may_have_methods_of_its_own() -> None:
    """A name of a subclass of str is taken as the text that it is."""

    class Name(str):
        __slots__ = ()

        def __len__(self) -> int:
            return 0

    names = label_names([Name("topic")])
    assert names == {"topic": "topic"}
    assert [type(name) for name in names] == [str]


def test_metrics_refuse_and_take_the_same() -> None:
    """`Metrics` checks what it is given, and its labels have the names that were insisted on."""
    with pytest.raises(ValueError, match="'authToken' looks like a secret"):
        Metrics(allowed_props=["authToken"])
    metrics = Metrics(allowed_props=["job"], unsafe_props=["job"])
    set_trace_function(metrics)
    Tracer("here").trace(job=1)
    ((labels, count),) = samples(metrics)
    assert (labels["caller_props_job"], count) == ("1", 1)
