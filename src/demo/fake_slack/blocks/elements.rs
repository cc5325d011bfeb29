//! Interactive elements (buttons, menus) and the parts of rich text.

use super::{Checker, Node};

impl Checker {
    pub(super) fn element(&mut self, node: &Node<'_>, allowed: &[&str]) {
        if !allowed.contains(&node.kind()) {
            return self.fault(node, &format!("unsupported type: {}", node.kind()));
        }
        self.unique(node, "action_id");
        match node.kind() {
            "button" => self.button(node),
            "overflow" => {
                self.keys(node, &["options"], &["action_id", "confirm"]);
                self.options(node, 5);
            }
            _ => {
                self.keys(node, &["options"], &["action_id", "placeholder", "initial_option", "confirm"]);
                self.plain(node, "placeholder", 150);
                self.options(node, 100);
                if let Some(initial) = node.get("initial_option") {
                    self.option(&initial);
                }
            }
        }
        if let Some(confirm) = node.get("confirm") {
            self.confirm(&confirm);
        }
    }

    fn button(&mut self, node: &Node<'_>) {
        let optional = ["action_id", "value", "url", "style", "confirm", "accessibility_label"];
        self.keys(node, &["text"], &optional);
        self.plain(node, "text", 75);
        self.string(node, "value", 2_000);
        self.string(node, "url", 3_000);
        self.string(node, "accessibility_label", 75);
        self.choice(node, "style", &["primary", "danger"]);
    }

    fn confirm(&mut self, node: &Node<'_>) {
        self.keys(node, &["title", "text", "confirm", "deny"], &["style"]);
        self.plain(node, "title", 100);
        self.any_text(node, "text", 300);
        self.plain(node, "confirm", 30);
        self.plain(node, "deny", 30);
        self.choice(node, "style", &["primary", "danger"]);
    }

    fn options(&mut self, node: &Node<'_>, max: usize) {
        for option in self.list(node, "options", max) {
            self.option(&option);
        }
    }

    fn option(&mut self, node: &Node<'_>) {
        self.keys(node, &["text", "value"], &["description", "url"]);
        self.any_text(node, "text", 75);
        self.string(node, "value", 150);
        self.plain(node, "description", 75);
        self.string(node, "url", 3_000);
    }

    pub(super) fn rich_text(&mut self, node: &Node<'_>) {
        self.keys(node, &["elements"], &["block_id"]);
        for part in self.list(node, "elements", usize::MAX - 1) {
            self.rich_part(&part);
        }
    }

    fn rich_part(&mut self, node: &Node<'_>) {
        const INLINE: [&str; 9] =
            ["text", "link", "emoji", "user", "usergroup", "channel", "broadcast", "date", "color"];
        let inline: &[&str] = match node.kind() {
            "rich_text_section" => {
                self.keys(node, &["elements"], &[]);
                &INLINE
            }
            "rich_text_quote" => {
                self.keys(node, &["elements"], &["border"]);
                &INLINE
            }
            "rich_text_preformatted" => {
                self.keys(node, &["elements"], &["border", "language"]);
                &INLINE[..2]
            }
            "rich_text_list" => return self.rich_list(node),
            other => return self.fault(node, &format!("unsupported type: {other}")),
        };
        self.integer(node, "border", 0..=1);
        for element in self.list(node, "elements", usize::MAX - 1) {
            self.rich_inline(&element, inline);
        }
    }

    fn rich_list(&mut self, node: &Node<'_>) {
        self.keys(node, &["style", "elements"], &["indent", "offset", "border"]);
        self.choice(node, "style", &["bullet", "ordered"]);
        self.integer(node, "indent", 0..=8);
        self.integer(node, "offset", 0..=100_000);
        self.integer(node, "border", 0..=1);
        for element in self.list(node, "elements", usize::MAX - 1) {
            match element.kind() {
                "rich_text_section" => self.rich_part(&element),
                other => self.fault(&element, &format!("unsupported type: {other}")),
            }
        }
    }

    fn rich_inline(&mut self, node: &Node<'_>, allowed: &[&str]) {
        if !allowed.contains(&node.kind()) {
            return self.fault(node, &format!("unsupported type: {}", node.kind()));
        }
        let (required, optional): (&[&str], &[&str]) = match node.kind() {
            "text" => (&["text"], &["style"]),
            "link" => (&["url"], &["text", "style", "unsafe"]),
            "emoji" => (&["name"], &["unicode", "skin_tone", "style"]),
            "user" => (&["user_id"], &["style"]),
            "usergroup" => (&["usergroup_id"], &["style"]),
            "channel" => (&["channel_id"], &["style"]),
            "broadcast" => (&["range"], &["style"]),
            "date" => (&["timestamp", "format"], &["url", "fallback", "style"]),
            _ => (&["value"], &["style"]),
        };
        self.keys(node, required, optional);
        for key in ["text", "url", "name", "user_id", "usergroup_id", "channel_id", "fallback"] {
            self.string(node, key, usize::MAX - 1);
        }
        self.choice(node, "range", &["here", "channel", "everyone"]);
        if let Some(style) = node.get("style") {
            let keys =
                ["bold", "italic", "strike", "code", "underline", "highlight", "client_highlight", "unlink"];
            self.keys(&style, &[], &keys);
            for key in keys {
                self.boolean(&style, key);
            }
        }
    }
}
