"""The pages' addresses, below /admin/."""

from django.urls import URLPattern, path, re_path

from operators.pages import (
    changes,
    documentation,
    failures,
    groups,
    history,
    loss,
    nodemap,
    others,
    remedies,
    search,
    views,
)  # fmt: skip

app_name = "pages"
urlpatterns: list[URLPattern] = [
    path("now/remedy/<str:kind>/", remedies.remedy, name="remedy"),
    path("groups/", groups.groups, name="groups"),
    path("failures/", failures.failures, name="failures"),
    path("map/", nodemap.nodemap, name="map"),
    path("history/", history.history, name="history"),
    path("changes/", changes.changes, name="changes"),
    path("changes/story/", changes.story, name="story"),
    path("changes/undo/", changes.undo, name="undo"),
    path("checks/config/<int:pk>/others/", others.others, name="others"),
    path("nodes/node/<int:pk>/loss/", loss.loss, name="loss"),
    path("nodes/domain-loss/", loss.of_domain, name="domain-loss"),
    re_path(r"^documentation/(?P<page>[-\w]+(?:/[-\w]+)?)/$", documentation.missing, name="documentation"),
    re_path("completions/(?P<rows>configs|nodes)/$", search.completions, name="completions"),
    path("search/", search.search, name="search"),
    path("operators/savedview/save/", views.save, name="save-view"),
    path("operators/savedview/<int:pk>/", views.follow, name="view"),
    path("operators/savedview/<int:pk>/delete/", views.delete, name="delete-view"),
]
