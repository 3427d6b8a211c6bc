from django.apps import AppConfig


class ClusterAgentConfig(AppConfig):
    name = "clusteragent"
    verbose_name = "Cluster agent"
