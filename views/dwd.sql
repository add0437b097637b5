-- Detail layer: facts widened by their dimensions, one row a fact.

CREATE MATERIALIZED VIEW IF NOT EXISTS dwd_order_items
  COMMENT 'order items with their order, buyer and product'
  INTO warehouse.dwd_order_items AS
SELECT i.id, i.order_id, o.status, o.created_at, DATE(o.created_at) AS day,
       o.user_id, u.city, i.product_id, p.title, p.category,
       i.quantity, i.price, i.quantity * i.price AS amount
FROM shop.order_items i
JOIN shop.orders o ON o.id = i.order_id
JOIN shop.users u ON u.id = o.user_id
LEFT JOIN shop.products p ON p.id = i.product_id;

CREATE MATERIALIZED VIEW IF NOT EXISTS dwd_payments
  COMMENT 'payments with the city of the buyer'
  INTO warehouse.dwd_payments AS
SELECT y.id, y.order_id, y.amount, y.paid_at, o.user_id, u.city
FROM shop.payments y
JOIN shop.orders o ON o.id = y.order_id
JOIN shop.users u ON u.id = o.user_id;
