"""Django's settings for the operators' port. All processes have them except the agents' web server."""

from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from csp.constants import NONCE
from django.http.request import split_domain_port
from django.templatetags.static import static

from clusteragent.lib import conf
from clusteragent.lib.version import VERSION

# Host names in the form of the Host header.
ALLOWED_HOSTS = [
    *conf.ADMIN_HOSTS,
    *([split_domain_port(urlsplit(conf.ADMIN_URL).netloc)[0]] if conf.ADMIN_URL else []),
]
# Browsers that come past the proxy, straight to our own port, may send forms, too.
CSRF_TRUSTED_ORIGINS = [
    f"https://{host}:{conf.ADMIN_BIND[1]}" for host in conf.ADMIN_HOSTS if conf.ADMIN_URL and host[0] not in ".*"
]
APPEND_SLASH = True
# They come before the apps of both ports.
APPS = [
    "unfold",
    "unfold.contrib.filters",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "rest_framework",
    "django_filters",
    "drf_spectacular",
    "drf_spectacular_sidecar",
    "knox",
    "django_ace",
    # For FORM_RENDERER.
    "django.forms",
]
MIDDLEWARE = [
    "csp.middleware.CSPMiddleware",
    "operators.middleware.Headers",
    "clusteragent.views.HealthFirst",
    "operators.middleware.PublicURL",
    "django.middleware.security.SecurityMiddleware",
    "operators.middleware.KnownHosts",
    "operators.middleware.Readable",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "operators.login.Sessions",
    "operators.middleware.Entrances",
    "operators.signon.ProxyLogin",
    "operators.pages.now.FreshAfterChange",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [Path(__file__).parent.parent / "templates"],
        "OPTIONS": {
            # As `APP_DIRS` does, but for icons and controls.
            "loaders": [
                (
                    "django.template.loaders.cached.Loader",
                    ["django.template.loaders.filesystem.Loader", "operators.icons.ReachableTemplates"],
                )
            ],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
        },
    },
]

# Fields are templates as all others are, so that their icons are hidden, too.
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"

STATIC_URL = "static/"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True
WHITENOISE_ALLOW_ALL_ORIGINS = False

LOGIN_URL = "admin:login"
LOGIN_REDIRECT_URL = "admin:index"
AUTHENTICATION_BACKENDS = ["operators.login.Backend", "operators.signon.Backend", "operators.signon.ByProxy"]
PASSWORD_HASHERS = ["operators.hashing.PatientHasher"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.NumericPasswordValidator"},
]
# The longest life of a session. `operators.login` ends idle ones earlier.
SESSION_COOKIE_AGE = int(conf.SESSION_AGE.total_seconds())
# With the prefix __Host- a browser accepts the cookie only from this host, over TLS. Of a URL with http, which only this
# machine's may be, it would accept neither the prefix nor `Secure`.
SECURE_COOKIES = not conf.ADMIN_URL.startswith("http:")
COOKIE_PREFIX = "__Host-" if SECURE_COOKIES else ""
SESSION_COOKIE_NAME = f"{COOKIE_PREFIX}session"
CSRF_COOKIE_NAME = f"{COOKIE_PREFIX}csrf"
CSRF_FAILURE_VIEW = "operators.errors.csrf_failure"
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_HTTPONLY = CSRF_COOKIE_HTTPONLY = True
SESSION_COOKIE_SAMESITE = CSRF_COOKIE_SAMESITE = "Lax"
# Not in a cookie: messages may name what only some users may see.
MESSAGE_STORAGE = "django.contrib.messages.storage.session.SessionStorage"
SECURE_CONTENT_TYPE_NOSNIFF = True
SECURE_HSTS_SECONDS = int(conf.HSTS_AGE.total_seconds())
SECURE_REFERRER_POLICY = "same-origin"
SILENCED_SYSTEM_CHECKS = [
    # Other names of the domain, and lists of browsers, are its owner's.
    "security.W005",
    "security.W021",
    # No port of ours is without TLS, so there is nothing to redirect from.
    "security.W008",
    # Cookies of plain HTTP, for this machine's own URL alone.
    *([] if SECURE_COOKIES else ["security.W012", "security.W016"]),
]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": ["'none'"],
        # unfold's pages are written for Alpine.js, which makes functions of their attributes.
        "script-src": ["'self'", "'unsafe-eval'", NONCE],
        "style-src": ["'self'"],
        # Attributes alone: Alpine.js and Swagger's page set widths by them.
        "style-src-attr": ["'unsafe-inline'"],
        "img-src": ["'self'", "data:"],
        "font-src": ["'self'"],
        "connect-src": ["'self'"],
        "form-action": ["'self'"],
        "base-uri": ["'none'"],
        "object-src": ["'none'"],
        "frame-ancestors": ["'none'"],
    }
}

REST_FRAMEWORK = {
    "DEFAULT_AUTHENTICATION_CLASSES": [],
    "DEFAULT_PERMISSION_CLASSES": [],
    "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
    "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.JSONParser"],
    "UNAUTHENTICATED_USER": None,
    "COMPACT_JSON": True,
    "DEFAULT_SCHEMA_CLASS": "drf_spectacular.openapi.AutoSchema",
}
# Of operators' tokens; those of node agents are options.
# A table of ours refers to the library's: migrations ask for its name.
KNOX_TOKEN_MODEL = "knox.AuthToken"  # noqa: S105 - a model
REST_KNOX = {"AUTH_HEADER_PREFIX": "Bearer", "TOKEN_TTL": timedelta(days=90)}
SPECTACULAR_SETTINGS = {
    "TITLE": "Cluster agent: operators' API",
    "VERSION": "1",
    "SERVE_INCLUDE_SCHEMA": False,
    "SCHEMA_PATH_PREFIX": "/api/operator/v1",
    "SWAGGER_UI_DIST": "SIDECAR",
    "SWAGGER_UI_FAVICON_HREF": "SIDECAR",
    "ENUM_NAME_OVERRIDES": {
        "ConfigStateEnum": "operators.api.configs.CONFIG_STATES",
        "NodeStateEnum": "operators.api.fields.NODE_STATES",
        "MoveReasonEnum": "checks.models.Move.Reason",
        "IsolationReasonEnum": "checks.models.orders.Isolation.Reason",
        "PromiseEnum": "checks.models.handovers.Promise",
    },
    # No validator of another host is asked about the schema.
    "SWAGGER_UI_SETTINGS": {"deepLinking": True, "validatorUrl": None},
}

UNFOLD = {
    "SITE_TITLE": "Cluster agent",
    "SITE_HEADER": "Cluster agent",
    "SITE_SUBHEADER": f"{VERSION}, all times are UTC",
    "SITE_SYMBOL": "hub",
    "SITE_FAVICONS": [
        {"rel": "icon", "type": "image/svg+xml", "href": lambda _: static("clusteragent/icon.svg")},
    ],
    "SCRIPTS": [
        lambda _: static("clusteragent/htmx.js"),
        lambda _: static("clusteragent/stale.js"),
        lambda _: static("clusteragent/copy.js"),
        lambda _: static("clusteragent/keys.js"),
        lambda _: static("clusteragent/reach.js"),
        lambda _: static("clusteragent/times.js"),
        lambda _: static("clusteragent/hints.js"),
    ],
    "STYLES": [
        lambda _: static("clusteragent/colors.css"),
        lambda _: static("clusteragent/admin.css"),
        lambda _: static("clusteragent/stale.css"),
    ],
    "SITE_URL": None,
    "SHOW_HISTORY": False,
    "GLOBAL_CALLBACK": "operators.pages.now.every_page",
    "DASHBOARD_CALLBACK": "operators.pages.now.first_page",
    "SIDEBAR": {"navigation": "operators.pages.base.navigation"},
}
